"""`make bench`: what the library costs, as ratios measured side by side in one run."""
