"""The live page: a ROS client of the node, and a small web server for people who watch it."""
