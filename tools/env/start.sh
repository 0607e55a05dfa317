# Run setup_env.py for the script that sources this, on a Python that fits.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pythons=(python3 python3.13 python3.12 python3.11 python3.10 "$here/../../.venv/bin/python")
for python in "${PYTHON:-${pythons[@]}}"; do
    if "$python" -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, n) for n in range(10, 14)])' \
        2> /dev/null; then
        exec "$python" "$here/setup_env.py" "${0##*/}" "$@"
    fi
done
echo "${0##*/}: error: ${PYTHON:-python3} is not Python 3.10 to 3.13: install one (Debian 12: apt" \
    "install python3 python3-pip) or name it: PYTHON=/path/to/python3.12 bash tools/${0##*/}" >&2
exit 1
