"""rclpy's parameter services, made to answer each request: for some its own callbacks raise, and the caller waits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import GetParameterTypes, SetParameters, SetParametersAtomically
from rclpy.node import Node

from stream_vl_ros.brief import brief


def answer_all(node: Node) -> None:
    """Let a node answer whatever is in a request that sets parameters, such as a value of a type that there is not."""
    for service in node.services:
        if service.srv_type is GetParameterTypes:
            service.callback = functools.partial(_types, node)
        elif service.srv_type is SetParameters:
            service.callback = functools.partial(_set, node, service.callback)
        elif service.srv_type is SetParametersAtomically:
            service.callback = functools.partial(_set_atomically, node, service.callback)


def _types(node: Node, request: Any, response: Any) -> Any:
    # rclpy gives a number for a parameter that there is, and an Enum for one that there is not.
    response.types = [int(getattr(kind, "value", kind)) for kind in node.get_parameter_types(request.names)]
    return response


def _set(node: Node, callback: Callable[[Any, Any], Any], request: Any, response: Any) -> Any:
    try:
        return callback(request, response)
    except Exception as error:
        # Those before it were set, or refused, each by itself.
        left = len(request.parameters) - len(response.results)
        response.results = [*response.results, *[_refused(node, error)] * left]
        return response


def _set_atomically(node: Node, callback: Callable[[Any, Any], Any], request: Any, response: Any) -> Any:
    try:
        return callback(request, response)
    except Exception as error:
        response.result = _refused(node, error)
        return response


def _refused(node: Node, error: Exception) -> SetParametersResult:
    reason = brief(f"the request cannot be understood: {type(error).__name__}: {error}")
    node.get_logger().warning(f"refused: {reason}")
    return SetParametersResult(successful=False, reason=reason)
