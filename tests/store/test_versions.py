def test_x(database):
    print(database.check())
