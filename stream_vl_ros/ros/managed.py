"""A managed node whose transitions may take minutes while its executor goes on.

rclpy's own `LifecycleNode` runs a transition inside a service callback: nothing else is answered meanwhile, and one
that the present state does not allow raises out of the executor. Here a transition is a coroutine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.lifecycle.node import LifecycleNodeMixin
from rclpy.node import Node

from stream_vl_ros.errors import StreamVLError

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)

_RclError = rclpy_implementation.RCLError


class ManagedNode(LifecycleNodeMixin, Node):
    """A node with the standard life cycle (design.ros2.org/articles/node_lifecycle.html).

    A subclass says what a transition does: `configure`, `activate`, `deactivate`, `clean_up` and `shut_down` are
    coroutines on the executor. One that raises `StreamVLError` has failed, and the node stays in the state that it had;
    any other exception is an error, after which `recover` is awaited and the node is unconfigured.
    """

    def __init__(self, name: str, **options: Any) -> None:
        """Unconfigured. `options` are those of `rclpy.node.Node`."""
        Node.__init__(self, name, **options)
        # Reentrant, so that the state can be asked for during a transition.
        LifecycleNodeMixin.__init__(self, callback_group=ReentrantCallbackGroup())
        self._service_change_state.callback = self._on_change_state
        self._steps: dict[int, Callable[[], Awaitable[None]]] = {
            State.TRANSITION_STATE_CONFIGURING: self.configure,
            State.TRANSITION_STATE_ACTIVATING: self.activate,
            State.TRANSITION_STATE_DEACTIVATING: self.deactivate,
            State.TRANSITION_STATE_CLEANINGUP: self.clean_up,
            State.TRANSITION_STATE_SHUTTINGDOWN: self.shut_down,
        }

    @property
    def lifecycle_state(self) -> str:
        """``"unconfigured"``, ``"inactive"``, ``"active"``, ``"finalized"``, or e.g. ``"configuring"``."""
        return str(self._state_machine.current_state[1])

    def destroy_node(self) -> None:
        """Leave the graph."""
        super().destroy_node()
        # It holds the node, which others would go on seeing.
        self._state_machine.destroy_when_not_in_use()

    async def configure(self) -> None:
        """Get what is needed to work."""

    async def activate(self) -> None:
        """Begin to work."""

    async def deactivate(self) -> None:
        """Stop working; keep everything."""

    async def clean_up(self) -> None:
        """Let go of what `configure` got."""

    async def shut_down(self) -> None:
        """Let go of everything, from any state."""

    async def recover(self) -> None:
        """After an error in a transition: let go of what there is."""

    async def change_state(self, transition: int) -> bool:
        """Carry out a `lifecycle_msgs.msg.Transition`. Returns whether it succeeded.

        Raises `StreamVLError` if the present state does not allow it.
        """
        if transition == Transition.TRANSITION_UNCONFIGURED_SHUTDOWN:
            # As in C++: whichever of the three shutdowns is asked for, the one of the present state is meant.
            transition = self._shutdown_from_here()
        possible = self._possible()
        if transition not in possible:
            now = ", ".join(f"{label} ({number})" for number, label in possible.items())
            raise StreamVLError(
                f"the node is {self.lifecycle_state}: transition {transition} is not possible now; possible are "
                f"{now or 'none'}"
            )
        self._state_machine.trigger_transition_by_id(transition, True)
        result = await self._carry_out()
        self._state_machine.trigger_transition_by_label(result.to_label(), True)
        if result == ERROR:
            await self._recover()
        return bool(result == SUCCESS)

    def _possible(self) -> dict[int, str]:
        # Above 9 are those that end a transition, which is nobody else's business.
        return {int(t[0]): str(t[1]) for t in self._state_machine.available_transitions if t[0] < 10}

    def _shutdown_from_here(self) -> int:
        return {
            "inactive": int(Transition.TRANSITION_INACTIVE_SHUTDOWN),
            "active": int(Transition.TRANSITION_ACTIVE_SHUTDOWN),
        }.get(self.lifecycle_state, int(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN))

    async def _carry_out(self) -> TransitionCallbackReturn:
        try:
            await self._steps[self._state_machine.current_state[0]]()
        except StreamVLError as error:
            self.get_logger().error(str(error))
            return FAILURE
        except Exception as error:
            self.get_logger().error(f"{self.lifecycle_state} failed: {type(error).__name__}: {error}")
            return ERROR
        return SUCCESS

    async def _recover(self) -> None:
        result = SUCCESS
        try:
            await self.recover()
        except Exception as error:
            self.get_logger().error(f"clearing up after that failed too: {type(error).__name__}: {error}")
            result = FAILURE
        self._state_machine.trigger_transition_by_label(result.to_label(), True)

    async def _on_change_state(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        transition = request.transition.id
        try:
            if request.transition.label:
                transition = self._state_machine.get_transition_by_label(request.transition.label)
            response.success = await self.change_state(transition)
        except (StreamVLError, _RclError) as error:
            self.get_logger().warning(f"change_state: {str(error).splitlines()[0]}")
            response.success = False
        return response
