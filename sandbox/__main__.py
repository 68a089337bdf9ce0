"""``python -m sandbox``: the sandbox as a process of its own."""

import argparse

from sandbox import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="The payment platform in miniature.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8081, help="port to listen on, 0 for any free one (%(default)s)")
    arguments = parser.parse_args()
    serve(arguments.host, arguments.port)


if __name__ == "__main__":
    main()
