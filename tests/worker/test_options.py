import functools
from contextlib import nullcontext

from faststream.rabbit import RabbitRouter

from faststream_django.worker.options import HandlerOptions, add_scope, change_options, handler_options


def scope(message):
    return nullcontext()


def test_handler_without_decorators_has_the_defaults():
    assert handler_options(print) == HandlerOptions(retry=None, scopes=())


def test_options_are_the_same_below_and_above_the_subscriber():
    router = RabbitRouter()

    def below(body: str) -> None: ...

    change_options(below, scopes=(scope,))
    above = router.subscriber("above")(lambda body: None)
    change_options(above, scopes=(scope,))

    assert handler_options(router.subscriber("below")(below)).scopes == (scope,)
    assert handler_options(above).scopes == (scope,)


def test_options_survive_another_decorator():
    def handler(body: str) -> None: ...

    change_options(handler, scopes=(scope,))

    assert handler_options(functools.wraps(handler)(lambda body: None)).scopes == (scope,)


def test_scopes_are_as_the_decorators_stand_but_one_may_stay_outermost():
    class Outermost:
        is_outermost = True

    def handler(body: str) -> None: ...

    outermost, other = Outermost(), object()
    for each in (scope, outermost, other):
        add_scope(handler, each)

    assert handler_options(handler).scopes == (outermost, other, scope)
