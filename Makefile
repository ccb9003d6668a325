# make run [ONCE=1]      pyfix below build/run, with a demonstration; ONCE=1 ends after it
# make test              all checks and tests
# make check             what needs no processes: ruff, mypy, floors, unit tests
# make durability        what the mail system survives: faults, power cuts; LONG=1: all that there are; needs root
# make install DESTDIR=  as a package would
# make deb               build/pyfix_*.deb, for Debian 13
# make rpm               build/pyfix-*.rpm
# make machine           boots a Debian 13 with the package, and says how to enter it
# make bench-local       CPU per message and role
# make bench             pyfix beside Postfix, in two test machines; needs root
# make clean             removes build/run, build/venv and caches

PYTHON = build/venv/bin/python
DESTDIR =
DURABILITY = PYTHONPATH=tests:. $(PYTHON) -m durability

.PHONY: run test check durability install deb rpm machine bench-local bench clean

run: build/prepared-run
	@$(PYTHON) tests/run/demonstrate.py $(if $(ONCE),--once) build/run

test: check
	$(PYTHON) -m pytest -q -m system -n 2 --dist loadfile
	$(DURABILITY) --where-possible

durability: build/prepared-test
	$(DURABILITY) $(if $(LONG),--long)

check: build/prepared-test
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest -q -m "not system" -n 2

bench-local: build/prepared-test
	PYTHONPATH=tests:. $(PYTHON) tests/bench/local.py

bench: build/prepared-test
	PYTHONPATH=tests:. $(PYTHON) tests/bench/yardstick.py

build/prepared-run build/prepared-test: build/prepared-%: pyproject.toml .ci/prepare
	@.ci/prepare $*

deb rpm:
	/usr/bin/python3 packaging/build.py $@

machine: build/prepared-test
	PYTHONPATH=tests $(PYTHON) -m machine.boot

install:
	/usr/bin/python3 packaging/install.py "$(DESTDIR)"

clean:
	rm -rf build/run build/venv build/prepared-run build/prepared-test .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find pyfix tests -name __pycache__ -type d -prune -exec rm -rf {} +
