"""Audits: the whole cloud and its databases looked at at once, and compared with what should be and what was.

`audit.py` is an audit from beginning to end; `asking.py` says which node is asked what, `judging.py` makes the tables
of the answers, `kept.py` keeps audits small and finds them again.
"""
