"""What holds during each request."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from compliance_bot.guardrails import policy

Handler = Callable[[HttpRequest], HttpResponse]


def one_policy_per_request(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Whoever changes the policy is judged by the one before, and a page does not mix two."""

    def answer(request: HttpRequest) -> HttpResponse:
        with policy.pinned():
            return get_response(request)

    return answer
