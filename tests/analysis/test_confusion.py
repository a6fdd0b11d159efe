"""Confusion matrices of an arm's runs, and the sentence on them."""

from support import make_result

from bnexp.analysis.confusion import MOST_CLASSES, confusion, confusion_finding


def test_the_confusion_of_an_arm_adds_its_runs_up() -> None:
    pets = ("cat", "dog")
    runs = [make_result(test__confusion=matrix, data__classes=pets) for matrix in (((8, 2), (0, 10)), ((9, 1), (1, 9)))]
    made = confusion("batch", "with BN", runs)
    assert made is not None
    assert made.counts == ((17, 3), (1, 19))
    assert (made.errors, made.images, made.most_frequent) == (4, 40, (0, 1))
    perfect = confusion("none", "without BN", [make_result(test__confusion=((5, 0), (0, 5)), data__classes=pets)])
    assert perfect is not None
    assert confusion_finding([made, perfect]) == (
        "With BN, 10.0 % of the test images are misclassified, most often cat taken for dog; without BN, 0.0 %."
    )


def test_of_errors_that_are_as_frequent_none_is_named() -> None:
    made = confusion("batch", "with BN", [make_result(test__confusion=((8, 2), (2, 8)), data__classes=("cat", "dog"))])
    assert made is not None
    assert made.most_frequent is None
    assert confusion_finding([made]) == "With BN, 20.0 % of the test images are misclassified."


def test_matrices_of_other_classes_are_not_added_up() -> None:
    some = make_result(test__confusion=((5, 0), (0, 5)), data__classes=("cat", "dog"))
    other = make_result(test__confusion=((5, 0), (0, 5)), data__classes=("cat", "cow"))
    odd = make_result(test__confusion=((5, 0), (0, 5)), data__classes=("cat", "cow", "dog"))
    assert confusion("batch", "with BN", [some, other]) is None
    assert confusion("batch", "with BN", [odd]) is None
    assert confusion("batch", "with BN", [make_result()]) is None


def test_more_classes_than_cells_have_room_for_have_no_matrix() -> None:
    size = MOST_CLASSES + 1
    many = make_result(test__confusion=((1,) * size,) * size, data__classes=tuple(map(str, range(size))))
    assert confusion("batch", "with BN", [many]) is None
