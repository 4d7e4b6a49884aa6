#!/usr/bin/env python3
"""Ask the node a question and print the answer while it is written; Ctrl-C stops it at its next token.

python examples/ros_ask.py "What is in front of the robot?"
python examples/ros_ask.py "Is the door open?" --choices yes no

A free answer comes through the action `~/ask_stream`, a choice through the service `~/ask`.
"""

import argparse
import sys

import rclpy
from rclpy.action import ActionClient
from rclpy.node import Node
from stream_vl_ros.action import AskStream
from stream_vl_ros.srv import Ask

PATIENCE = 10.0


def stream(node: Node, name: str, question: str) -> int:
    client = ActionClient(node, AskStream, f"{name}/ask_stream")
    if not client.wait_for_server(PATIENCE):
        sys.exit(
            f"ros_ask: {name}/ask_stream is not there: is the node running, with the same "
            "ROS_DOMAIN_ID and ROS_AUTOMATIC_DISCOVERY_RANGE?"
        )
    printed = ""

    def show(text: str) -> None:
        nonlocal printed
        printed += text
        print(text, end="", flush=True)

    sent = client.send_goal_async(AskStream.Goal(question=question), lambda message: show(message.feedback.text))
    rclpy.spin_until_future_complete(node, sent)
    goal = sent.result()
    done = goal.get_result_async()
    try:
        while not done.done():
            rclpy.spin_once(node, timeout_sec=0.1)  # Python looks for Ctrl-C in between
    except KeyboardInterrupt:
        rclpy.spin_until_future_complete(node, goal.cancel_goal_async())
        rclpy.spin_until_future_complete(node, done)
    result = done.result().result
    if result.answer.startswith(printed.lstrip()):  # the last pieces may be missing when the result arrives
        show(result.answer.removeprefix(printed.lstrip()))
    print(f"\n[{result.frames_seen} frames seen, first token {1e3 * result.ttft:.0f} ms] {result.error}".rstrip())
    return 0 if result.success else 1


def choose(node: Node, name: str, question: str, choices: list[str]) -> int:
    client = node.create_client(Ask, f"{name}/ask")
    if not client.wait_for_service(PATIENCE):
        sys.exit(
            f"ros_ask: {name}/ask is not there: is the node running, with the same "
            "ROS_DOMAIN_ID and ROS_AUTOMATIC_DISCOVERY_RANGE?"
        )
    future = client.call_async(Ask.Request(question=question, choices=choices, timeout=PATIENCE))
    rclpy.spin_until_future_complete(node, future, timeout_sec=2 * PATIENCE)
    if not future.done():
        sys.exit(f"ros_ask: no answer in {2 * PATIENCE:.0f} s: did the node end?")
    response = future.result()
    print(response.answer or response.error)
    for choice, score in zip(choices, response.scores, strict=False):
        print(f"  {score:8.3f}  {choice}")
    return 0 if response.success else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question")
    parser.add_argument("--choices", nargs="+", default=[])
    parser.add_argument("--node", default="/stream_vl", help="name of the node")
    args = parser.parse_args()

    # Ctrl-C is ours: the goal has to be cancelled before the context goes.
    rclpy.init(args=[], signal_handler_options=rclpy.SignalHandlerOptions.NO)
    node = rclpy.create_node("ros_ask")
    try:
        if args.choices:
            return choose(node, args.node, args.question, args.choices)
        return stream(node, args.node, args.question)
    except KeyboardInterrupt:
        sys.exit("stopped")
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
