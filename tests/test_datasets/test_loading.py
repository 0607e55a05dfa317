"""Reading images: mmcv's pixels, our words when a file is broken."""

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from PIL import Image
from torch.utils.data import DataLoader

from mmdet_centernet2.datasets.transforms.loading import CheckedLoadImageFromFile, ImageReadError

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
    path.write_bytes(content[: int(len(content) * share)])
    return path


@pytest.mark.parametrize(
    'scope, name, kind',
    [
        ('mmdet_centernet2', 'LoadImageFromFile', CheckedLoadImageFromFile),
        ('mmdet', 'CheckedLoadImageFromFile', CheckedLoadImageFromFile),
        ('mmdet', 'LoadImageFromFile', LoadImageFromFile),
    ],
)
def test_which_name_gives_which_class(scope, name, kind):
    built = TRANSFORMS.build(dict(type=name, _scope_=scope, imdecode_backend='pillow'))
    assert type(built) is kind


@pytest.mark.parametrize('backend', BACKENDS)
def test_same_result_as_mmcv(picture, backend):
    ours = load(picture, imdecode_backend=backend)
    theirs = LoadImageFromFile(imdecode_backend=backend)(dict(img_path=str(picture)))
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
@pytest.mark.parametrize(
    'content, said',
    [(None, 'does not exist'), (b'', 'is empty (0 bytes)'), (b'no picture at all', 'not an image')],
)
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


# -----pixels of more than 8 bits-----
RAMP = np.arange(0, 65536, 65536 / (24 * 32)).astype(np.uint16).reshape(24, 32)


def save(folder, name, pixels):
    """Write an image and return its path; OpenCV knows 16-bit colours."""
    path = folder / name
    if pixels.ndim == 3:
        cv2.imwrite(str(path), pixels)
    else:
        Image.fromarray(pixels).save(path)
    return path


def pixels_of(path):
    return load(path)['img']


def colours(ramp):
    return np.stack([ramp, ramp[::-1], ramp[:, ::-1]], axis=-1)


@pytest.mark.parametrize(
    'name, pixels',
    [
        ('grey.png', RAMP),
        ('little.tif', RAMP.astype('<u2')),
        ('big.tif', RAMP.astype('>u2')),
        ('colour.png', colours(RAMP)),
        ('colour.tif', colours(RAMP)),
    ],
)
def test_16_bits_become_8_as_in_opencv(tmp_path, name, pixels):
    path = save(tmp_path, name, pixels)
    found = pixels_of(path)
    assert found.dtype == np.uint8 and len(np.unique(found)) == 256
    difference = found.astype(int) - cv2.imread(str(path))
    # OpenCV rounds colours of a TIFF, and nothing else
    assert abs(difference).max() == (name == 'colour.tif')
    grey = pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)
    np.testing.assert_array_equal(found, grey >> 8)


@pytest.mark.parametrize('order, mode', [('<', 'I;16'), ('>', 'I;16B')])
def test_tiffs_of_both_byte_orders(tmp_path, order, mode):
    """The files above are what they say."""
    path = save(tmp_path, 'image.tif', RAMP.astype(f'{order}u2'))
    assert path.read_bytes()[:2] == {'<': b'II', '>': b'MM'}[order]
    assert Image.open(path).mode == mode


def test_16_bit_graymap(tmp_path):
    """pillow opens it with 32 bits."""
    path = tmp_path / 'grey.pgm'
    cv2.imwrite(str(path), RAMP)
    assert Image.open(path).mode == 'I'
    np.testing.assert_array_equal(pixels_of(path)[..., 0], RAMP >> 8)


def test_mode_of_32_bits_from_a_png(tmp_path, monkeypatch):
    """As older versions of pillow open one of 16 bits."""
    path = save(tmp_path, 'grey.png', RAMP)
    image = Image.fromarray(RAMP.astype(np.int32))
    image.format = 'PNG'
    monkeypatch.setattr(Image, 'open', lambda *args: image)
    np.testing.assert_array_equal(pixels_of(path)[..., 0], RAMP >> 8)


def test_16_bits_are_turned_upright(tmp_path):
    path = tmp_path / 'grey.png'
    image = Image.fromarray(RAMP)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    np.testing.assert_array_equal(pixels_of(path)[..., 0], np.rot90(RAMP >> 8, -1))


def test_16_bits_as_float32(tmp_path):
    path = save(tmp_path, 'grey.png', RAMP)
    image = load(path, to_float32=True)['img']
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[..., 0], RAMP >> 8)


@pytest.mark.parametrize(
    'pixels, mode', [(RAMP.astype(np.int32), 'I'), (RAMP.astype(np.float32) / 65535, 'F')]
)
def test_32_bits_are_refused(tmp_path, pixels, mode):
    path = save(tmp_path, 'grey.tif', pixels)
    with pytest.raises(ImageReadError) as error:
        load(path)
    assert str(path) in str(error.value) and f"'{mode}'" in str(error.value)


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGBA', 'CMYK'])
def test_other_modes_are_read_as_mmcv_does(tmp_path, mode):
    path = tmp_path / 'image.tif'
    if mode == 'P':
        path = path.with_suffix('.png')
    Image.fromarray(colours(RAMP >> 8).astype(np.uint8)).convert(mode).save(path)
    assert Image.open(path).mode == mode
    theirs = LoadImageFromFile(imdecode_backend='pillow')(dict(img_path=str(path)))['img']
    found = load(path)['img']
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, theirs)


# -----JPEGs, which OpenCV reads-----
@pytest.mark.parametrize('progressive', [False, True])
@pytest.mark.parametrize('subsampling', ['4:4:4', '4:2:2', '4:2:0'])
@pytest.mark.parametrize('size', [(97, 131), (64, 48)])
def test_jpegs_have_pillows_pixels(tmp_path, monkeypatch, size, subsampling, progressive):
    path = tmp_path / 'image.jpg'
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, quality=80, subsampling=subsampling, progressive=progressive)
    monkeypatch.delattr(LoadImageFromFile, 'transform')  # mmcv's way
    found = load(path)['img']
    np.testing.assert_array_equal(found[..., ::-1], np.asarray(Image.open(path)))


@pytest.mark.parametrize('mode', ['L', 'CMYK'])
def test_jpegs_of_other_colours_are_read_as_mmcv_does(tmp_path, mode):
    path = tmp_path / 'image.jpg'
    Image.fromarray(colours(RAMP >> 8).astype(np.uint8)).convert(mode).save(path)
    theirs = LoadImageFromFile(imdecode_backend='pillow')(dict(img_path=str(path)))['img']
    np.testing.assert_array_equal(load(path)['img'], theirs)


@pytest.mark.parametrize('marker', [b'', b'\xff\xd8', b'\xff\xd8\xff\xe0\0\x04ab\xff\xd9'])
def test_no_more_than_the_start_of_a_jpeg(tmp_path, marker):
    path = tmp_path / 'image.jpg'
    path.write_bytes(marker)
    with pytest.raises(ImageReadError, match='image.jpg'):
        load(path)


def test_a_photo_without_loss_is_read_once(tmp_path, monkeypatch):
    path = tmp_path / 'image.png'
    pixels = colours(RAMP >> 8).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    monkeypatch.delattr(LoadImageFromFile, 'transform')  # mmcv's way
    np.testing.assert_array_equal(load(path)['img'][..., ::-1], pixels)


def test_a_turned_jpeg_is_left_to_mmcv(tmp_path):
    path = tmp_path / 'image.jpg'
    image = Image.fromarray(colours(RAMP >> 8).astype(np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    theirs = LoadImageFromFile(imdecode_backend='pillow')(dict(img_path=str(path)))['img']
    found = load(path)['img']
    assert found.shape == (32, 24, 3)
    np.testing.assert_array_equal(found, theirs)
