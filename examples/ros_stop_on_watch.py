#!/usr/bin/env python3
"""Hold the robot while a standing question says so, as a condition in a behaviour tree would.

python examples/ros_stop_on_watch.py "Is there a person in front of the robot?" --threshold 0.8

The node asks the question after every chunk of video and tells of changes. This one passes velocities through from
`cmd_vel_in` to `cmd_vel`, and sends zeros while the watch fires. It is an example, not a safety function.
"""

import argparse
import sys

import rclpy
from geometry_msgs.msg import Twist
from rclpy.node import Node
from rclpy.qos import QoSProfile
from stream_vl_ros.msg import Event
from stream_vl_ros.srv import Watch

NAME = "stop"


class Stop(Node):
    def __init__(self, question: str, threshold: float, watcher: str) -> None:
        super().__init__("stop_on_watch")
        self.held = False
        self.velocity = self.create_publisher(Twist, "cmd_vel", 10)
        self.create_subscription(Twist, "cmd_vel_in", self.pass_on, 10)
        # Listening comes first, so that the first event is not missed.
        self.create_subscription(Event, f"{watcher}/event", self.decide, QoSProfile(depth=100))
        self.watch = self.create_client(Watch, f"{watcher}/watch")
        if not self.watch.wait_for_service(10.0):
            sys.exit(
                f"ros_stop_on_watch: {watcher}/watch is not there: is the node running, with the same "
                "ROS_DOMAIN_ID and ROS_AUTOMATIC_DISCOVERY_RANGE?"
            )
        self.question, self.threshold = question, threshold
        self.call("remove")  # one that an earlier run left
        added = self.call("add", question=question, threshold=threshold)
        if not added.success:
            sys.exit(f"ros_stop_on_watch: {added.error}")
        print(f"watching: {question}", flush=True)
        self.checked = None
        self.create_timer(2.0, self.check)

    def call(self, command: str, **fields: object) -> Watch.Response:
        future = self.watch.call_async(Watch.Request(command=command, name=NAME, **fields))
        rclpy.spin_until_future_complete(self, future)
        return future.result()

    def decide(self, event: Event) -> None:
        if event.name != NAME:
            return
        if event.removed:
            self.hold("the watch is gone")
            return
        self.held = event.fired
        stamp = event.header.stamp
        print(
            f"{'STOP' if self.held else 'go'} at {stamp.sec}.{stamp.nanosec // 10**8}, {event.probability:.2f}",
            flush=True,
        )
        if self.held:
            self.velocity.publish(Twist())

    def check(self) -> None:
        """Nobody is watching any more? Then better stand still. A node that was started again is asked again."""
        if self.checked is not None and not self.checked.done():
            self.hold("the node does not answer")
        if not self.watch.service_is_ready():
            self.hold("the node is gone")
            return
        self.checked = self.watch.call_async(Watch.Request(command="list"))
        self.checked.add_done_callback(self.found)

    def found(self, listed) -> None:
        watches = listed.result()
        if NAME not in watches.names:
            self.hold("the watch is gone")
            request = Watch.Request(command="add", name=NAME, question=self.question, threshold=self.threshold)
            self.watch.call_async(request)
            return
        index = list(watches.names).index(NAME)
        asked, firing = watches.probabilities[index] >= 0, watches.firing[index]
        if asked and self.held and not firing:
            self.held = False
            print("go, it is watched and does not fire", flush=True)
        elif firing:
            self.hold("it fires")

    def hold(self, why: str) -> None:
        if not self.held:
            print(f"STOP, {why}", flush=True)
        self.held = True
        self.velocity.publish(Twist())

    def pass_on(self, wanted: Twist) -> None:
        self.velocity.publish(Twist() if self.held else wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--node", default="/stream_vl", help="name of the node")
    args = parser.parse_args()

    rclpy.init(args=[], signal_handler_options=rclpy.SignalHandlerOptions.NO)
    node = Stop(args.question, args.threshold, args.node)
    try:
        while True:
            rclpy.spin_once(node, timeout_sec=0.1)  # Python looks for Ctrl-C in between
    except KeyboardInterrupt:
        node.call("remove")
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
