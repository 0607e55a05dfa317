"""The main job: train, evaluate and picture a small CenterNet2."""
