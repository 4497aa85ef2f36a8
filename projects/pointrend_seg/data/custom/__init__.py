"""The user's own data sets: folders of label images, and COCO JSON files."""
