"""The folder layouts of public datasets and of plants; each file reads one kind, `registry` lists them.

Names of folders are compared without regard to case. A folder of images is read with the folders below it.

    layout              normal images       labeled images             masks
    MVTec AD            train/good          test/good, test/DEFECT     ground_truth/DEFECT
    MPDD, VisA's 1cls   train/good          test/good, test/DEFECT     ground_truth/DEFECT
    MVTec LOCO          train/good          test/good, test/DEFECT     ground_truth/DEFECT/IMAGE/
    MVTec AD 2          train/good          test_public/good, .../bad  test_public/ground_truth/bad
    BTAD                train/ok            test/ok, test/ko           ground_truth/ko
    VisA                Data/Images/Normal  Data/Images/Anomaly        Data/Masks/Anomaly
    Real-IAD            OK                  NG/DEFECT                  IMAGE.png beside IMAGE.jpg
    KolektorSDD         kosNN               kosNN                      IMAGE_label.bmp beside IMAGE.jpg
    KolektorSDD2        train               test                       IMAGE_GT.png beside IMAGE.png
    masks beside        the folder itself   the folder itself          IMAGE_mask.png beside IMAGE.png
    two folders         good                bad, or any other name     ground_truth/bad, masks/bad
    a folder in it      the folder itself   bad                        ground_truth/bad, masks/bad
    normal images only  good, or the folder itself

`label_names` lists the names of folders of good and of defective images.

Where no folder has a label (KolektorSDD, masks beside the images), an image is defective if its mask marks a
pixel. VisA's split is read from `split_csv/1cls.csv`, Real-IAD's from `realiad_jsons/`, if the file exists.
Other layouts without folders for training and test hold out a fifth of the normal images, chosen by a hash of
the file names.
"""
