"""A reader's place in a table that grows: from memory while it keeps up, from the journal where it does not."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from kkt_bridge.stages.publishing import AHEAD_MAX, OutboxCursor


@dataclass(frozen=True)
class Row:
    id: int


class Answer(list):
    """Rows that a reader has got, and what the thread that commits does before the reader has looked at them."""

    def __init__(self, rows, meanwhile):
        super().__init__(rows)
        self.meanwhile = meanwhile

    def __len__(self):
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return super().__len__()


class Table:
    """Rows as the journal holds them, and how often it was asked."""

    def __init__(self):
        self.rows = []
        self.asked = 0
        self.fails = False
        self.meanwhile = []
        """Commits while the journal is being read: a number of rows before it answers, and of commits after it has."""
        self.feed = OutboxCursor(self.read)

    def read(self, after, limit):
        self.asked += 1
        if self.fails:
            raise OSError("the disk is away")
        before, behind = self.meanwhile or (0, 0)
        self.meanwhile = []
        if before:
            self.commit(before)
        return Answer(
            [row for row in self.rows if row.id > after][:limit], lambda: [self.commit(100) for _ in range(behind)]
        )

    def commit(self, count=1):
        new = [Row(len(self.rows) + n) for n in range(1, count + 1)]
        self.rows += new
        self.feed.committed(new)

    def taken(self, limit=10):
        return [row.id for row in self.feed.take(limit)]


def test_what_was_there_before_comes_from_the_journal_and_what_comes_then_from_memory():
    table = Table()
    table.commit(3)
    assert table.taken() == [1, 2, 3]
    table.commit(2)
    assert table.taken() == [4, 5]
    assert table.taken() == []
    assert table.asked == 1


def test_a_reader_that_falls_behind_misses_nothing_and_holds_no_more_than_its_limit():
    table = Table()
    assert table.taken() == []
    for _ in range(AHEAD_MAX // 100 + 2):
        table.commit(100)
    assert len(table.feed._fresh) <= AHEAD_MAX + 100
    seen = []
    while rows := table.taken(150):
        seen += rows
    assert seen == [row.id for row in table.rows]


def test_a_read_that_fails_is_made_again():
    table = Table()
    table.commit(2)
    table.fails = True
    for _ in range(2):
        try:
            table.taken()
        except OSError:
            continue
        raise AssertionError("the failure was swallowed")
    table.fails = False
    assert table.taken() == [1, 2]


def test_a_reader_that_starts_over_gets_everything_behind_its_place_again():
    table = Table()
    table.commit(5)
    assert table.taken() == [1, 2, 3, 4, 5]
    table.feed.start_over(2)
    table.commit()
    assert table.taken() == [3, 4, 5, 6]


def test_what_was_committed_while_the_journal_was_read_is_not_mistaken_for_the_end():
    """It is in the answer and in memory; a take must not come back short over it, while more waits."""
    table = Table()
    table.commit(1)
    table.meanwhile = (7, 0)
    assert table.taken(20) == list(range(1, 9))
    table.commit(30)
    assert table.taken(10) == list(range(9, 19))


def test_a_reader_that_falls_behind_while_the_journal_answers_misses_nothing():
    table = Table()
    table.commit(1)
    table.meanwhile = (0, AHEAD_MAX // 100 + 2)
    seen = table.taken(50)
    table.commit(3)
    while rows := table.taken(150):
        seen += rows
    assert seen == [row.id for row in table.rows]


@given(st.lists(st.tuples(st.sampled_from(["commit", "take", "over"]), st.integers(1, 9)), max_size=60))
def test_every_row_is_taken_once_and_in_order_whatever_happens_in_which_order(events):
    table, seen = Table(), []
    for what, size in events:
        match what:
            case "commit":
                table.commit(size)
            case "take":
                seen += table.taken(size)
            case "over":
                seen = seen[: size * 2]
                table.feed.start_over(len(seen))
        assert seen == list(range(1, len(seen) + 1))
    while rows := table.taken():
        seen += rows
    assert seen == [row.id for row in table.rows]
