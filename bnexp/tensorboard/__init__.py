"""What TensorBoard's event files hold beside the scalars of metrics.jsonl: pictures, histograms, graph, hparams, layout, means over seeds.

`means` and `layout` import no torch.
"""
