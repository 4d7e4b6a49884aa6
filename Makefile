# Everything runs in .venv, which `make env` fills from PyPI. On a robot with ROS 2 use colcon.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help env build demo web report soak test lint clean distclean

export PYTHON BAG TOPIC MODEL PORT

ACTIVATE := source scripts/env.sh

# What only computes on up to four cores, then what talks over DDS, three at a time, then what keeps time, one by one; also
# after failures, not after Ctrl-C.
define WHOLE_SUITE
status=0; \
	python -m pytest -m "not alone and not talks" --numprocesses logical --maxprocesses 4 \
		--dist loadfile --no-loadscope-reorder || status=$$?; \
	[[ $$status -le 1 ]] || exit $$status; \
	python -m pytest -m "talks and not alone" --numprocesses 4 --dist worksteal || status=$$?; \
	[[ $$status -le 1 ]] || exit $$status; \
	python -m pytest -m alone || status=$$?; exit $$status
endef

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo
	@echo '  make demo BAG=my_bag TOPIC=/camera/image_raw MODEL=Qwen/Qwen2.5-VL-3B-Instruct'
	@echo '  make web TOPIC=/camera/image_raw PORT=8080'
	@echo '  make soak ARGS="--hours 0.5 --json soak.json --plot soak.png"'
	@echo '  make test ARGS="test/engine -k cache"'
	@echo '  make env PYTHON=python3.12'

env: ## Create or update .venv with ROS 2, PyTorch and the tools
	@scripts/setup_env.sh

build: env ## Build the package with colcon into install/
	@scripts/build.sh

demo: build ## Replay a bag to the node and ask it questions (BAG= TOPIC= MODEL= ARGS=)
	@$(ACTIVATE); python -m stream_vl_ros.demo $${BAG:+--bag "$$BAG"} \
		$${TOPIC:+--topic "$$TOPIC"} $${MODEL:+--model "$$MODEL"} $(ARGS)

report: build ## Measure stream against native, into report/index.html (MODEL= ARGS=)
	@$(ACTIVATE); python -m stream_vl_ros.report $${MODEL:+--model "$$MODEL"} $(ARGS)

soak: build ## Two hours of use, accelerated, on the CPU: is anything lost, does anything grow? (ARGS=)
	@$(ACTIVATE); python -m stream_vl_ros.bench.soak $(ARGS)

web: build ## Open the live page: the node, and a bag in a loop or the camera of TOPIC (BAG= TOPIC= MODEL= PORT= ARGS=)
	@$(ACTIVATE); python -m stream_vl_ros.web.together $${BAG:+--bag "$$BAG"} \
		$${TOPIC:+--topic "$$TOPIC"} $${MODEL:+--model "$$MODEL"} $${PORT:+--port "$$PORT"} $(ARGS)

test: build ## Run the whole test suite, or what pytest makes of ARGS=
	@$(ACTIVATE); $(if $(strip $(ARGS)),python -m pytest $(ARGS),$(WHOLE_SUITE))

lint: env ## Check style and types
	@$(ACTIVATE); ruff check; ruff format --check; mypy

clean: ## Remove what was built
	rm -rf build install log dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean ## Remove .venv as well
	rm -rf .venv
