from workflows.domain.retry import backoff


def test_the_wait_grows_and_is_capped() -> None:
    assert [backoff(attempt, fraction=1.0) for attempt in (1, 2, 3, 20)] == [4.0, 8.0, 16.0, 300.0]


def test_jitter_is_full_but_nobody_is_asked_again_within_a_second() -> None:
    assert backoff(3, fraction=0.5) == 8.0
    assert backoff(3, fraction=0.0) == 1.0


def test_what_the_receiver_asked_for_is_a_floor() -> None:
    assert backoff(1, fraction=0.0, at_least=60.0) == 60.0
    assert backoff(1, fraction=1.0, at_least=60.0) == 64.0
