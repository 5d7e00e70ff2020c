# Each target does all of its own set-up: `make demo` and `make test` work on a fresh clone.
.PHONY: install demo test check eval clean

VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo "$$p" && break; done)

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt scripts/check_opencv.py
	@if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then \
		echo "talkfarm needs Python 3.11 or 3.12, and found $$("$${PYTHON:-python3}" --version 2>&1 || echo none); install one, or name it: make install PYTHON=/path/to/python3.12"; exit 1; fi
	@[ -x $(PY) ] || "$(PYTHON)" -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(PY) scripts/check_opencv.py
	@touch $@

demo: install
	$(PY) -m demo

test: install
	$(PY) -m pytest

check: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

OUT ?= baselines
eval: install
	@[ -n "$(VIDEOS)" ] || { echo "name a folder of talking videos: make eval VIDEOS=folder [OUT=$(OUT)]"; exit 2; }
	$(PY) -m jobs.baselines videos="$(VIDEOS)" out="$(OUT)"

clean:
	rm -rf $(VENV) out demo/out
