"""A live video memory for ROS 2: watch an image topic, answer questions about it."""

from pkgutil import extend_path

__version__ = "0.1.0"

# The messages that `colcon build` generates live in a folder of this name elsewhere on sys.path.
__path__ = extend_path(__path__, __name__)
