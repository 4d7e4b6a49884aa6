"""Recordings: read, write and replay rosbag2 bags, and turn video files into bags."""
