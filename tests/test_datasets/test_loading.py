"""Reading images: mmcv's pixels, our words when a file is broken."""
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from PIL import Image
from torch.utils.data import DataLoader

from mmdet_centernet2.datasets.transforms.loading import (
    CheckedLoadImageFromFile, ImageReadError)

BACKENDS = ('pillow', 'cv2')


@pytest.fixture
def picture(tmp_path):
    """A JPEG that lies on its side and says so (EXIF orientation 6)."""
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[:, :32] = 250, 120, 30
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6
    path = tmp_path / 'picture.jpg'
    image.save(path, quality=95, exif=exif)
    return path


def load(path, **kwargs):
    kwargs.setdefault('imdecode_backend', 'pillow')
    return CheckedLoadImageFromFile(**kwargs)(dict(img_path=str(path)))


def truncated(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[:int(len(content) * share)])
    return path


@pytest.mark.parametrize('name', ['LoadImageFromFile',
                                  'CheckedLoadImageFromFile'])
def test_both_names_build_it(name):
    built = TRANSFORMS.build(dict(type=name, imdecode_backend='pillow'))
    assert isinstance(built, CheckedLoadImageFromFile)


@pytest.mark.parametrize('backend', BACKENDS)
def test_same_result_as_mmcv(picture, backend):
    ours = load(picture, imdecode_backend=backend)
    theirs = LoadImageFromFile(imdecode_backend=backend)(
        dict(img_path=str(picture)))
    np.testing.assert_array_equal(ours.pop('img'), theirs.pop('img'))
    assert ours == theirs


@pytest.mark.parametrize('backend', BACKENDS)
def test_exif_orientation_is_applied(picture, backend):
    image = load(picture, imdecode_backend=backend)['img']
    assert image.shape == (64, 40, 3)  # turned by 90 degrees
    blue, _, red = image[5, 20].astype(int)
    assert red > 200 > 100 > blue  # the coloured half is on top, in BGR


@pytest.mark.parametrize('ending', ['jpg', 'png'])
def test_truncated_file_is_named(tmp_path, ending):
    noise = np.random.RandomState(0).randint(0, 255, (64, 64, 3), np.uint8)
    path = tmp_path / f'cut.{ending}'
    Image.fromarray(noise).save(path)
    truncated(path)
    with pytest.raises(ImageReadError) as error:
        load(path)
    assert str(path) in str(error.value)
    assert f'({path.stat().st_size} bytes)' in str(error.value)
    assert 'truncated' in str(error.value)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('content, said', [
    (None, 'does not exist'),
    (b'', 'is empty (0 bytes)'),
    (b'no picture at all', 'not an image'),
])
def test_other_broken_files_are_named(tmp_path, backend, content, said):
    path = tmp_path / 'broken.png'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageReadError) as error:
        load(path, imdecode_backend=backend)
    assert str(path) in str(error.value) and said in str(error.value)


def test_folder_is_named(tmp_path):
    with pytest.raises(ImageReadError, match='is a folder'):
        load(tmp_path)


def test_ignore_empty_still_gives_none(tmp_path):
    assert load(tmp_path / 'nothing.png', ignore_empty=True) is None


def test_error_survives_the_way_out_of_a_worker(tmp_path):
    """DataLoader builds the exception anew from its text."""

    class Images:

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return load(tmp_path / 'nothing.png')

    with pytest.raises(ImageReadError, match='nothing.png does not exist'):
        next(iter(DataLoader(Images(), num_workers=1)))
