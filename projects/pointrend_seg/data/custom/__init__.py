"""Users' own data sets: folders of label images and JSON files in COCO's format."""
