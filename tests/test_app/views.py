import os

from django.http import JsonResponse

from faststream_django import apublish, publish, publish_on_commit

from .models import Order


def publish_now(request, queue):
    message_id = publish({"path": request.path}, queue)
    return JsonResponse({"message_id": message_id, "pid": os.getpid()})


async def publish_async(request, queue):
    message_id = await apublish({"path": request.path}, queue)
    return JsonResponse({"message_id": message_id, "pid": os.getpid()})


def order(request, queue, number):
    created = Order.objects.create(number=number)
    message_id = publish_on_commit({"number": created.number}, queue)
    if "fail" in request.GET:
        raise RuntimeError("The view failed after publish_on_commit().")
    return JsonResponse({"message_id": message_id, "pid": os.getpid()})
