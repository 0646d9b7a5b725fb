# Sourced, not run: sets $python to a python3 that has pip, in $work/venv where the machine's own lacks it, or calls
# fail.
has_pip() { "$1" -m pip --version >/dev/null 2>&1; }
# A Debian python3 may lack pip, and its venv module the means to make one.
find_pip() {
	python=python3
	if has_pip python3; then return 0; fi
	python=$work/venv/bin/python
	python3 -m venv "$work/venv" >/dev/null 2>&1 && has_pip "$python"
}
if ! find_pip; then
	scripts/setup/install_packages.sh fetch
	find_pip || fail "python3 with pip is needed (Debian: python3-pip)"
fi
