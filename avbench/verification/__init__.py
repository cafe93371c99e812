"""Checking results again: are records and artefacts whole and in agreement, and do the sets score what is recorded?

Two tiers. *Integrity* asks whether what lies in a folder is consistent in itself; it needs neither data nor a GPU.
*Re-evaluation* trains the evaluation networks again. docs/submitting.md says what each can and can't catch.
"""
