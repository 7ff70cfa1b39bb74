import pytest
from django.utils.module_loading import import_string
from django_q.models import Schedule

from workflows import schedules

pytestmark = pytest.mark.django_db


def test_what_is_declared_is_there_and_nothing_else() -> None:
    Schedule.objects.create(name="by hand", func="os.system")
    schedules.sync()
    assert set(Schedule.objects.values_list("name", flat=True)) == set(schedules.SCHEDULES)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_each_names_a_task_that_runs_without_arguments(name: str) -> None:
    import_string(str(schedules.SCHEDULES[name]["func"]))()
