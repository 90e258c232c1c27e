from __future__ import annotations

import torch
from dlmkit_gru.task import running_mean


def test_running_mean_by_loops():
    values = torch.arange(12.0).reshape(6, 2).square()
    rows = [values[0]] * 2 + list(values)
    expected = torch.stack([(rows[t] + rows[t + 1] + rows[t + 2]) / 3 for t in range(6)])
    torch.testing.assert_close(running_mean(values, 3), expected)
    torch.testing.assert_close(running_mean(values[:1], 4), values[:1])
