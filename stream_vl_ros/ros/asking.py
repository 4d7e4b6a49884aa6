"""Questions of other nodes: `~/ask` the service, `~/ask_stream` the action, and `~/answer` for everybody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeAlias

from builtin_interfaces.msg import Time
from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from stream_vl_ros.action import AskStream
from stream_vl_ros.errors import RequestError, StreamVLError
from stream_vl_ros.msg import Answer as AnswerMsg
from stream_vl_ros.ros.awaiting import awaitable
from stream_vl_ros.ros.failures import why
from stream_vl_ros.ros.handover import Handover
from stream_vl_ros.ros.messages import answer_message, combine, fill_response, reason, refuse, wire
from stream_vl_ros.ros.pacing import Pace
from stream_vl_ros.ros.qos import EVENT_QOS, SERVICE_QOS
from stream_vl_ros.ros.streams import selected
from stream_vl_ros.srv import Ask

if TYPE_CHECKING:
    from stream_vl_ros.ros.camera_stream import CameraStream
    from stream_vl_ros.ros.session import Session


Answered: TypeAlias = Ask.Response | AskStream.Result  # they have the same fields
Asked: TypeAlias = Ask.Request | AskStream.Goal


class Asking:
    """Hands questions to the sessions and their answers back; any number of them at once."""

    def __init__(
        self, node: Node, streams: Mapping[str, CameraStream], session: Callable[[CameraStream], Session]
    ) -> None:
        """Offers the service and the action.

        Args:
            node: whose they are.
            streams: what can be asked about, by name.
            session: what answers; raises `StreamVLError` while there is none.
        """
        self._node, self._streams, self._session = node, streams, session
        self._count = 0
        self._running: dict[bytes, list[Future[Any]]] = {}  # of goals that are being answered, by id
        together = ReentrantCallbackGroup()
        self._pace = Pace(node, together)
        self._publisher = node.create_publisher(AnswerMsg, "~/answer", EVENT_QOS)
        self._service = node.create_service(
            Ask, "~/ask", self._on_ask, qos_profile=SERVICE_QOS, callback_group=together
        )
        self._written: Handover[tuple[ServerGoalHandle, str, str]] = Handover(node, self._tell, together)
        self._action = ActionServer(
            node,
            AskStream,
            "~/ask_stream",
            execute_callback=self._on_goal,
            cancel_callback=self._on_cancel,
            callback_group=together,
            goal_service_qos_profile=SERVICE_QOS,
            result_service_qos_profile=SERVICE_QOS,
            cancel_service_qos_profile=SERVICE_QOS,
            feedback_pub_qos_profile=SERVICE_QOS,
        )

    def close(self) -> None:
        """Offer the action no longer."""
        self._action.destroy()

    async def _on_ask(self, request: Ask.Request, response: Ask.Response) -> Ask.Response:
        await self._answered(request, response, None)
        await self._pace.turn()
        return response

    async def _on_goal(self, goal: ServerGoalHandle) -> AskStream.Result:
        result = AskStream.Result()
        await self._answered(goal.request, result, goal)
        self._written.drain()
        if goal.is_cancel_requested:
            goal.canceled()
        elif result.success:
            goal.succeed()
        else:
            goal.abort()
        await self._pace.turn()
        return result

    def _on_cancel(self, goal: ServerGoalHandle) -> CancelResponse:
        for future in self._running.get(_id(goal), ()):
            future.cancel()
        return CancelResponse.ACCEPT

    async def _answered(self, request: Asked, response: Answered, goal: ServerGoalHandle | None) -> None:
        """`_answer`, and if that breaks a response all the same: its caller would wait for ever."""
        try:
            await self._answer(request, response, goal)
        except Exception as error:
            told = why(self._node, f"question {request.question[:80]!r}", error)
            if not response.success:
                refuse(response, RequestError(told))

    async def _answer(self, request: Asked, response: Answered, goal: ServerGoalHandle | None) -> None:
        """Fill in the response, and publish the answers."""
        self._count += 1
        number = self._count
        try:
            streams = selected(self._streams, request.stream)
        except StreamVLError as error:
            self._note(request, error)
            refuse(response, error)
            self._publisher.publish(answer_message(number, "", request, response, "", self._now()))
            return
        # A question must not overtake images that are here already.
        for stream in streams:
            stream.camera.take_waiting()
        questions = [_Question(self, stream, request, goal) for stream in streams]
        if goal is not None:
            self._running[_id(goal)] = [q.future for q in questions if q.future is not None]
            if goal.is_cancel_requested:
                self._on_cancel(goal)
        try:
            parts = [await question.part() for question in questions]
        finally:
            if goal is not None:
                self._running.pop(_id(goal), None)
        combine(response, [stream.name for stream in streams], parts, len(request.choices))
        for stream, part in zip(streams, parts, strict=True):
            message = answer_message(number, stream.name, request, part, stream.frame_id, self._now())
            self._publisher.publish(message)
            stream.debug_image.answer(message)

    def _now(self) -> Time:
        return self._node.get_clock().now().to_msg()

    def _note(self, request: Asked, error: Exception) -> None:
        self._node.get_logger().warning(f"question {request.question[:80]!r} was not answered: {reason(error)}")

    def _tell(self, written: tuple[ServerGoalHandle, str, str]) -> None:
        goal, stream, text = written
        if goal.is_active:
            goal.publish_feedback(AskStream.Feedback(stream=stream, text=wire(text)))


class _Question:
    """A question that one stream was asked, from then on."""

    def __init__(self, asking: Asking, stream: CameraStream, request: Asked, goal: ServerGoalHandle | None) -> None:
        self._asking, self._request = asking, request
        self._pieces: list[str] = []
        self._refused: StreamVLError | None = None
        self.future: Future[Any] | None = None

        def written(text: str) -> None:
            self._pieces.append(text)
            asking._written.put((goal, stream.name, text))

        try:
            self.future = asking._session(stream).ask(request, None if goal is None else written)
        except StreamVLError as error:
            self._refused = error

    async def part(self) -> Ask.Response:
        """What came of it."""
        part = Ask.Response()
        try:
            if self.future is None:
                assert self._refused is not None
                raise self._refused
            fill_response(part, await awaitable(self._asking._node, self.future))
        except StreamVLError as error:
            refuse(part, error, "".join(self._pieces))
            self._asking._note(self._request, error)
        return part


def _id(goal: ServerGoalHandle) -> bytes:
    return bytes(goal.goal_id.uuid)
