"""`python -m stream_vl_ros.demo`."""

from stream_vl_ros.demo.main import main

raise SystemExit(main())
