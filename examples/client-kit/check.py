"""Says whether this machine can log to the server of this kit: python check.py

This file is read by any Python, also one that is too old for the rest.
"""

import sys

OLDEST = (3, 9)

if sys.version_info < OLDEST:
    shown = ".".join(str(part) for part in sys.version_info[:3])
    needed = ".".join(str(part) for part in OLDEST)
    sys.stdout.write("!!  Python     this is Python " + shown + ", which is too old\n")
    sys.stdout.write("               do: run check.py with Python " + needed + " or newer\n")
    sys.exit(1)

if __name__ == "__main__":
    from client_check.main import main

    sys.exit(main())
