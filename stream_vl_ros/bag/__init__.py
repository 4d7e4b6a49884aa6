"""Recordings: read, write and replay rosbag2 bags, ask about them, and turn video files into bags."""
