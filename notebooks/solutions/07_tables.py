"""Solutions of notebook 07; each cell runs behind the notebook's own cells."""

# %% 07.1
# (97*71 + 71*33 + 33*10)/(784*300 + 300*100 + 100*10) = 9560/266200.
assert check("07.1", 100 * (97 * 71 + 71 * 33 + 33 * 10) / 266_200)

# %% 07.2
# No: it is 1.99. Weights fall with the product of two widths and units with one, so r_N is about the square root of r_W
# however even, and r_N/r_W grows as the net shrinks: VIBNet's is largest because its net is smallest, and L0-sep, the most
# even row, has less.
ratio = (check_rows["r_N printed"] / check_rows["r_W printed"]).set_axis(check_rows["method"])
assert ratio.idxmax() == "VIBNet" and ratio[["VIBNet", "L0-sep", "VD"]].round(2).tolist() == [4.73, 3.27, 2.33]
assert check_rows.set_index("method")["r_W printed"].idxmin() == "VIBNet"
half = fully_connected((784, 300, 100, 10), (392, 150, 50))
assert check("07.2", half.r_n / half.r_w)
