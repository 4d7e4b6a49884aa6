"""Questions of other nodes: `~/ask` the service, `~/ask_stream` the action, and `~/answer` for everybody."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from stream_vl_ros.action import AskStream
from stream_vl_ros.errors import StreamVLError
from stream_vl_ros.msg import Answer as AnswerMsg
from stream_vl_ros.ros.awaiting import awaitable
from stream_vl_ros.ros.handover import Handover
from stream_vl_ros.ros.messages import answer_message, fill_response, wire
from stream_vl_ros.srv import Ask

if TYPE_CHECKING:
    from stream_vl_ros.ros.session import Session


class Asking:
    """Hands questions to the session and their answers back; any number of them at once."""

    def __init__(
        self,
        node: Node,
        *,
        session: Callable[[], Session],
        before: Callable[[], None],
        frame_id: Callable[[], str],
        told: Callable[[AnswerMsg], None],
    ) -> None:
        """Offers the service and the action.

        Args:
            node: whose they are.
            session: what answers; raises `StreamVLError` while there is none.
            before: called before a question is handed over: it must not overtake images that are here already.
            frame_id: of the newest image.
            told: called with every answer that is published.
        """
        self._node = node
        self._session, self._before, self._frame_id, self._told = session, before, frame_id, told
        self._count = 0
        self._running: dict[bytes, Future[Any]] = {}  # of goals that are being answered, by id
        together = ReentrantCallbackGroup()
        self._publisher = node.create_publisher(AnswerMsg, "~/answer", 10)
        self._service = node.create_service(Ask, "~/ask", self._on_ask, callback_group=together)
        self._written: Handover[tuple[ServerGoalHandle, str]] = Handover(node, self._tell, together)
        self._action = ActionServer(
            node,
            AskStream,
            "~/ask_stream",
            execute_callback=self._on_goal,
            cancel_callback=self._on_cancel,
            callback_group=together,
        )

    def close(self) -> None:
        """Offer the action no longer."""
        self._action.destroy()

    async def _on_ask(self, request: Ask.Request, response: Ask.Response) -> Ask.Response:
        await self._answer(request, response, None)
        return response

    async def _on_goal(self, goal: ServerGoalHandle) -> AskStream.Result:
        result = AskStream.Result()
        await self._answer(goal.request, result, goal)
        self._written.drain()
        if goal.is_cancel_requested:
            goal.canceled()
        elif result.success:
            goal.succeed()
        else:
            goal.abort()
        return result

    def _on_cancel(self, goal: ServerGoalHandle) -> CancelResponse:
        future = self._running.get(_id(goal))
        if future is not None:
            future.cancel()
        return CancelResponse.ACCEPT

    async def _answer(
        self,
        request: Ask.Request | AskStream.Goal,
        response: Ask.Response | AskStream.Result,
        goal: ServerGoalHandle | None,
    ) -> None:
        """Fill in the response, and publish it."""
        self._count += 1
        number = self._count
        self._before()
        pieces: list[str] = []

        def written(text: str) -> None:
            pieces.append(text)
            self._written.put((goal, text))

        try:
            future = self._session().ask(request, None if goal is None else written)
            if goal is not None:
                self._running[_id(goal)] = future
                if goal.is_cancel_requested:
                    future.cancel()
            fill_response(response, await awaitable(self._node, future))
        except StreamVLError as error:
            response.success, response.error = False, wire(str(error))
            response.answer = wire("".join(pieces))
            self._node.get_logger().warning(f"question {request.question[:80]!r} was not answered: {error}")
        finally:
            if goal is not None:
                self._running.pop(_id(goal), None)
        now = self._node.get_clock().now().to_msg()
        message = answer_message(number, request, response, self._frame_id(), now)
        self._publisher.publish(message)
        self._told(message)

    def _tell(self, written: tuple[ServerGoalHandle, str]) -> None:
        goal, text = written
        if goal.is_active:
            goal.publish_feedback(AskStream.Feedback(text=wire(text)))


def _id(goal: ServerGoalHandle) -> bytes:
    return bytes(goal.goal_id.uuid)
