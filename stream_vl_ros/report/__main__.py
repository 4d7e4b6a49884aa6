"""`python -m stream_vl_ros.report`."""

from stream_vl_ros.report.main import main

raise SystemExit(main())
