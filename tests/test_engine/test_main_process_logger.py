"""The metrics of a test, written by one process."""

import json
from types import SimpleNamespace

import pytest
from mmengine.logging import MMLogger

from mmdet_centernet2.engine.hooks import MainProcessLoggerHook, main_process_logger


@pytest.mark.parametrize('main', [True, False])
def test_one_process_writes_the_metrics(tmp_path, monkeypatch, main):
    monkeypatch.setattr(main_process_logger, 'is_main_process', lambda: main)
    processor = SimpleNamespace(
        get_log_after_epoch=lambda *args, **kwargs: (dict(AP=0.5), 'AP: 0.5')
    )
    runner = SimpleNamespace(
        log_processor=processor,
        test_dataloader=[],
        log_dir=str(tmp_path),
        logger=MMLogger.get_instance('main process'),
    )
    hook = MainProcessLoggerHook()
    hook.json_log_path = 'run.json'
    hook.after_test_epoch(runner)
    written = [json.loads(path.read_text()) for path in tmp_path.iterdir()]
    assert written == [dict(AP=0.5)] * main
