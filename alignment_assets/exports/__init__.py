"""What a trainer takes: a folder of files in each format, and all that says what they are.

Here belongs which formats there are, writing their files, the manifest, the data card and the
metadata beside them, putting a folder in place of another, and sending it to the hub. Imports
`host`, `recipe`, `warehouse` and `pages`; the asset and the command import this.
"""
