# make demo: learn a word from four pictures on the CPU.  make test: every check.  Both set up .venv first.
PYTHON ?= python3
STAMP := .venv/.installed
DEMO := .venv/.standalone

.PHONY: demo test check models
demo: $(DEMO)
	.venv/bin/python -m ti_engine.demo

# Apart, because the tests of the nodes put a fake host where the others have the real one.
test: check
	.venv/bin/pytest -n auto --ignore=tests/host --ignore=tests/browser
	.venv/bin/pytest -rs tests/host/test_inside.py
	.venv/bin/pytest -rs -n 2 --dist loadfile --ignore=tests/host/test_inside.py tests/host tests/browser

check: $(STAMP)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright

# docs/models.md, from a run of the tests of all families in every ComfyUI of HOSTS.
HOSTS ?= $(HOME)/ComfyUI
models: $(STAMP)
	.venv/bin/python tests/host/write_models_page.py $(HOSTS)

# torch first and alone: a build of this release that is already there, CPU or CUDA, stays as it is. Which one comes
# otherwise is the package index's choice; where it would be a large CUDA build, name a CPU index in PIP_EXTRA_INDEX_URL.
$(DEMO): pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet -c constraints.txt torch==2.13.0
	.venv/bin/pip install --quiet -c constraints.txt -e '.[standalone]'
	touch $@

$(STAMP): $(DEMO)
	.venv/bin/pip install --quiet -c constraints.txt -e '.[standalone,dev]'
	touch $@
