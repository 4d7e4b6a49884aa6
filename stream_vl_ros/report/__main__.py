"""`python -m stream_vl_ros.report`."""

try:
    from stream_vl_ros.report.main import main  # takes seconds
except KeyboardInterrupt:
    raise SystemExit(130) from None

raise SystemExit(main())
