"""Downloads: checked, resumed and tried again."""
