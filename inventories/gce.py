from inventories import loader

globals().update(loader.groups(__file__))
