"""A whole split converted: planned, shared out, resumed, proved.

- `conversion`: input, options, and what goes where. `plan`: which sample goes into which shard.
- `run`: from a scan to a complete folder. `ffcv_conversion`: the same for an FFCV file.
- `parts`: shares of a split for several machines; `token_label_parts`: of its label maps.
- `workers`, `ray_executor`: who writes.
- `manifest`, `report`: what came out, with checksums; what was unusual.
- `remote_output`: output that goes to an object store.
"""
