"""Portraits of people, some of whom are never trained on.

Dimensions: N pictures, S side, P people.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from dlmkit.data.module import Split
from dlmkit.errors import UserError, at_least
from dlmkit_pictures.files import existing_folder, folders_in, list_pictures, read_picture, square, squared
from dlmkit_pictures.pictures import ReadPictures

__all__ = ["Portraits"]


class Portraits(ReadPictures):
    """Grey portraits in a folder for each person; validation and test show people who are not in the training set.

    The middle of each picture is made a square of the wanted size, with as many shades as are wanted. A training
    picture is there twice, the second time in a mirror, and with `copies` more often.

    References:
        | Parameterisation of a Stochastic Model for Human Face Identification (Samaria & Harter, 1994), for the ORL
          database of faces

    Args:
        source: A folder with a folder of pictures for each person, such as the ORL faces.
        image_size: Pixels S along one side.
        shades: Values that a pixel can have.
        val_people: How many people are kept for validation.
        test_people: How many people are kept for the test.
        people_seed: Which ones; it does not follow from the run's seed, so that all runs have the same.
        copies: How often each training picture is there, its mirror not counted: once as it is, else with up to an
            eighth of its side cut off at random places, so that the face is a little elsewhere and larger.
        batch_size: Pictures in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.

    Raises:
        UserError: If an option is out of range; and, when the pictures are first needed, if they cannot be read.
    """

    strangers = True

    def __init__(
        self,
        source: str = "orl_faces",
        image_size: int = 32,
        shades: int = 32,
        val_people: int = 4,
        test_people: int = 6,
        people_seed: int = 0,
        copies: int = 1,
        batch_size: int = 32,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        at_least(8, "data.", image_size=image_size)
        at_least(2, "data.", shades=shades)
        at_least(1, "data.", val_people=val_people, test_people=test_people, copies=copies)
        at_least(0, "data.", people_seed=people_seed)
        self.source, self.image_size, self.shades = source, image_size, shades
        self.val_people, self.test_people, self.people_seed, self.copies = val_people, test_people, people_seed, copies

    @property
    def levels(self) -> int:
        """The shades of grey."""
        return self.shades

    @property
    def num_classes(self) -> int:
        """0: the people of the validation and of the test are others, so no net can be told who they are."""
        return 0

    def describe(self) -> str:
        """Size, shades and people."""
        people = ", ".join(f"{len(self.table(s)[1].unique())} for {n}" for s, n in _PURPOSES.items())
        size = f"{self.image_size} × {self.image_size} pixels with {self.shades} shades"
        return f"portraits of {size}; people: {people}; {self.sizes('pictures')}{self.changed()}"

    def read(self) -> dict[Split, tuple[Tensor, Tensor]]:
        """Pictures (N, 1, S, S) and the numbers of their people.

        Those of training people begin at 0; people kept for validation follow, then those for the test.
        """
        people = self._people()
        order = torch.randperm(len(people), generator=torch.Generator().manual_seed(self.people_seed)).tolist()
        kept = self.val_people + self.test_people
        if len(people) < kept + 2:
            what = f"there are {len(people)} people, of whom {kept} are kept for validation and test"
            raise UserError(what, "give data.val_people and data.test_people so that two or more are left", self.source)
        parts: dict[Split, list[int]] = {
            "train": order[kept:],
            "val": order[: self.val_people],
            "test": order[self.val_people : kept],
        }
        found: dict[Split, tuple[Tensor, Tensor]] = {}
        first, draw = 0, torch.Generator().manual_seed(self.people_seed)
        for split, chosen in parts.items():
            copies = self.copies if split == "train" else 1
            pictures = [torch.cat([self._read(p, copies, draw) for p in list_pictures(people[i])]) for i in chosen]
            numbers = [torch.full((len(part),), first + k) for k, part in enumerate(pictures)]
            found[split] = torch.cat(pictures), torch.cat(numbers)
            first += len(chosen)
        once, whose = found["train"]
        return found | {"train": (torch.cat((once, once.flip(3))), whose.repeat(2))}

    def _people(self) -> list[Path]:
        place = existing_folder(self.source, "give the folder of the portraits as data.source")
        people = folders_in(place)
        if not people:
            raise UserError("this folder holds no folders", "give one with a folder for each person", str(place))
        return sorted(people, key=lambda p: [int(word) if word.isdecimal() else word for word in _words(p.name)])

    def _read(self, path: Path, copies: int, draw: torch.Generator) -> Tensor:
        """A picture, and copies of it that are cut out of its middle square (copies, 1, S, S)."""
        picture = read_picture(path, 1)
        pixels, changes = squared(picture, self.image_size)
        self.note(str(path), tuple(change for change in changes if change != "oblong"))  # portraits are
        whole = square(picture.pixels, min(picture.pixels.shape[1:]))
        found = [pixels]
        for _ in range(copies - 1):
            most = whole.shape[1] // 8
            off = int(torch.randint(most + 1, (1,), generator=draw))
            top, left = torch.randint(off + 1, (2,), generator=draw).tolist()
            cut = whole[:, top : whole.shape[1] - off + top, left : whole.shape[2] - off + left]
            found.append(square(cut, self.image_size))
        return (torch.stack(found) * (self.shades - 1)).round() / (self.shades - 1)


_PURPOSES: dict[Split, str] = {"train": "training", "val": "validation", "test": "the test"}


def _words(name: str) -> list[str]:
    """A name in parts, of which every second is a number: so that s2 comes before s10."""
    return re.split(r"(\d+)", name)
