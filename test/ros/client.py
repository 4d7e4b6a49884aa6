"""A client process: asks one question and prints the response as JSON."""

import json
import sys

import rclpy
from stream_vl_ros.srv import Ask

rclpy.init()
node = rclpy.create_node("client")
client = node.create_client(Ask, "/stream_vl/ask")
assert client.wait_for_service(20), "no service"
future = client.call_async(Ask.Request(question=sys.argv[1], max_new_tokens=int(sys.argv[2])))
rclpy.spin_until_future_complete(node, future, timeout_sec=40)
response = future.result()
print(json.dumps({"success": response.success, "answer": response.answer, "error": response.error}))
