# The web service: docker build -t autocaption . && docker run -p 127.0.0.1:8000:8000 -v DIR:/model:ro autocaption
# where DIR holds best.ckpt; compose.yaml does the same.
FROM python:3.12-slim
WORKDIR /app
COPY constraints.txt .
# Wheels for the CPU are a tenth of the size of those for CUDA. What they need comes with the rest, since their
# index doesn't have every version of it.
RUN pip install --no-cache-dir --no-deps torch torchvision --constraint constraints.txt \
    --index-url https://download.pytorch.org/whl/cpu
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt --editable '.[serve]' && useradd --uid 1000 autocaption
USER autocaption
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/api/health', timeout=4)"]
ENTRYPOINT ["python", "-m", "autocaption.serve", "--host", "0.0.0.0"]
CMD ["--checkpoint", "/model/best.ckpt"]
