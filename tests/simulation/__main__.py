"""`python -m simulation`: many days, or one of them told step by step."""

import argparse
import sys

from simulation.campaign import campaign, hunt, one_day
from simulation.mutations import MUTATIONS, bugs


def main() -> int:
    """Run what is asked for; the exit status is 1 if anything never allowed has happened."""
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many days (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="live this one day again, and tell its story")
    parser.add_argument(
        "--mutation", nargs="+", choices=list(MUTATIONS), help="plant each of these bugs, and stop where it is caught"
    )
    parser.add_argument("--bugs", action="store_true", help="list the planted bugs, as docs/reliability.md has them")
    parser.add_argument("--quiet", action="store_true", help="with --seed: only the verdict")
    args = parser.parse_args()
    if args.bugs:
        print(bugs())
        return 0
    if args.mutation is not None:
        if args.seed is None:
            return hunt(args.mutation, range(args.first, args.first + args.seeds), jobs=args.jobs)
        for name in args.mutation:
            MUTATIONS[name]()
    if args.seed is not None:
        return one_day(args.seed, tell=None if args.quiet else print)
    return campaign(range(args.first, args.first + args.seeds), jobs=args.jobs)


if __name__ == "__main__":
    sys.exit(main())
