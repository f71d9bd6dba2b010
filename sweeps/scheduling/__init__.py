"""When a trial ends before its last iteration because others do better."""
