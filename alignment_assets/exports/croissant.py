"""``croissant.json``: an export's metadata as Croissant 1.1, with what RAI adds.

Here belongs how a manifest reads in that vocabulary: each file with its hash, a set of files for
each format, and a set of records with its fields for each that is Parquet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignment_assets.exports.limits import BIASES, LIMITATIONS, PERSONAL

NAME = "croissant.json"
_TYPES = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UBIGINT"), "sc:Integer"),
    **dict.fromkeys(("DOUBLE", "FLOAT"), "sc:Float"),
    "BOOLEAN": "sc:Boolean",
}
_MESSAGES = re.compile(r'STRUCT\("?role"? VARCHAR, "?content"? VARCHAR\)\[\]')
_FORMATS = {"parquet": "application/x-parquet", "jsonl": "application/jsonlines"}
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{
        name: f"cr:{name}"
        for name in (
            *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract"),
            *("field", "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray"),
            *("isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet"),
            *("references", "regex", "repeated", "replace", "samplingRate", "separator"),
            *("source", "subField", "transform"),
        )
    },
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}


def write_croissant(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the metadata of an export, given what its manifest says, into its folder."""
    text = json.dumps(croissant(content), indent=2, ensure_ascii=False)
    (folder / NAME).write_text(text + "\n", encoding="utf-8")


def croissant(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of an export, given what its manifest says."""
    recipe, policy = content["recipe"], content["policy"]
    licences = content["licences"]
    listed = sorted({name for one in licences.values() for name in one.values()})
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [
            "http://mlcommons.org/croissant/1.1",
            "http://mlcommons.org/croissant/RAI/1.0",
        ],
        "name": f"{recipe['name']}-{policy['name']}",
        "description": f"{recipe['description']} Pairs and samples for the policy "
        f"{policy['name']}.",
        "license": listed,
        "version": "1.0.0",
        "isLiveDataset": False,
        "rai:dataCollection": "Prompts of the sources named, completions of models under several "
        "system prompts, rewards of a reward model or a judge; pairs selected by the strategy "
        f"{content['selection']['strategy']}.",
        "rai:dataCollectionType": ["Secondary Data Analysis", "Software Collection"],
        "rai:dataPreprocessingProtocol": [
            "Rules of licence, consent, form, length and repeats exclude rows; README.md counts "
            "them."
        ],
        "rai:machineAnnotationTools": content["judges"],
        "rai:dataUseCases": ["Preference alignment of the policy: DPO, QRPO, KTO, reward models"],
        "rai:dataBiases": list(BIASES),
        "rai:dataLimitations": list(LIMITATIONS),
        "rai:personalSensitiveInformation": [PERSONAL],
        "distribution": [
            one for name, format in content["formats"].items() for one in _files(name, format)
        ],
        # What is in lines of JSON is nested, which fields cannot say.
        "recordSet": [
            _records(name, one)
            for name, one in content["formats"].items()
            if one["files"][0]["path"].endswith(".parquet")
        ],
    }


def _files(name: str, one: Mapping[str, Any]) -> list[dict[str, Any]]:
    suffix = one["files"][0]["path"].rsplit(".", 1)[-1]
    objects = [
        {
            "@type": "cr:FileObject",
            "@id": file["path"],
            "name": file["path"],
            "contentUrl": file["path"],
            "contentSize": f"{file['bytes']} B",
            "encodingFormat": _FORMATS[suffix],
            "sha256": file["sha256"],
        }
        for file in one["files"]
    ]
    return [
        *objects,
        {
            "@type": "cr:FileSet",
            "@id": f"{name}-files",
            "name": f"{name}-files",
            "description": one["about"],
            "encodingFormat": _FORMATS[suffix],
            "includes": f"{name}/*.{suffix}",
        },
    ]


def _records(name: str, one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": one["about"],
        "field": [
            _field(f"{name}/{column['name']}", f"{name}-files", column["name"], column["type"])
            for column in one["columns"]
        ],
    }


def _field(place: str, files: str, column: str, kind: str) -> dict[str, Any]:
    """Return a column as a field; messages have fields for role and content in it."""
    field: dict[str, Any] = {"@type": "cr:Field", "@id": place, "name": place}
    source: dict[str, Any] = {"fileSet": {"@id": files}, "extract": {"column": column}}
    if kind.endswith("[]"):
        field |= {"isArray": True, "arrayShape": "-1"}
    if _MESSAGES.fullmatch(kind):
        field["subField"] = [
            {
                "@type": "cr:Field",
                "@id": f"{place}/{part}",
                "name": f"{place}/{part}",
                "dataType": "sc:Text",
                "source": {**source, "transform": {"jsonPath": part}},
            }
            for part in ("role", "content")
        ]
        return field
    return {**field, "dataType": _TYPES.get(kind.removesuffix("[]"), "sc:Text"), "source": source}
