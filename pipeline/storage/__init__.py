"""Bytes on disk, in tars and in object stores: whole or absent, locked, retried.

- `files`: a file is there completely or not at all. `locks`: who may write a folder.
- `bounded_file`: a file that is read at any place, and may shrink meanwhile.
- `remote`: files at URLs. `retry`: what is tried again, and how often.
- `tar_writer`, `tar_reader`: archives, byte by byte; no name in one is ever used as a path.
"""
