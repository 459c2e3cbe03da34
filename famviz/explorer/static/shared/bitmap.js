// Pictures that the kernel sent as bytes of a PNG or JPEG file.
export const decode = (bytes) => createImageBitmap(new Blob([bytes]));

export function pixelsOf(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height), context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}
