"""Collections of images as their makers ship them: each module is one layout, found by being here."""
