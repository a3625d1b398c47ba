"""Damage for fuzz tests: flipped bits, cut ends, and pieces put where they do not belong."""

from hypothesis import strategies as st


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """Some bytes near ``content``; once in a while ``content`` itself."""
    place = st.integers(0, len(content))
    span = st.tuples(place, place).map(sorted)

    def flip(places: list[tuple[int, int]]) -> bytes:
        changed = bytearray(content)
        for at, bit in places:
            changed[at % len(content)] ^= 1 << bit
        return bytes(changed)

    def splice(to: int, piece: list[int], removed: int) -> bytes:
        return content[:to] + content[slice(*piece)] + content[min(len(content), to + removed) :]

    def insert(to: int, other: bytes, removed: int) -> bytes:
        return content[:to] + other + content[min(len(content), to + removed) :]

    return st.one_of(
        st.lists(st.tuples(place, st.integers(0, 7)), min_size=1, max_size=4).map(flip),
        place.map(lambda end: content[:end]),
        st.builds(splice, place, span, st.integers(0, 40)),
        st.builds(insert, place, st.binary(max_size=12), st.integers(0, 12)),
    )
